"""Index files that instruments store beside images: who made which channel, where and when."""
