"""Making a space with torch: trace a helper, check it against torch, and write its graphs."""
