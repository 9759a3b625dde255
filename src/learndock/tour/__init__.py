"""The tour: the whole journey on real text, from fetched data to a page that shows what was found."""
