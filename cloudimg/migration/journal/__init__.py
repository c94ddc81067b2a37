"""What a destination records about its migration: plan, commit records, leases and end mark."""
