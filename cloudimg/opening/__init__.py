"""From what users pass to `cloudimg.open` to a described image."""
