"""What a destination records of its migration: plan, commit records, lease, inventory."""
