"""What pixels look like: colour spaces, and how the channels of an image are shown. Pure."""
