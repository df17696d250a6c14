"""Files as people have them, turned into text with headings: one file per kind, registered in `kinds`."""
