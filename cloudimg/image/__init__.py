"""The public `Image`, and what describes and shows one: facts, views, pictures."""
