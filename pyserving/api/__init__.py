"""One request, whatever wire it came by: predict, status, metadata."""
