"""The tour: the entire journey on real data, from fetching it to a page that shows what was found."""
