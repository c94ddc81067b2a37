"""The public `Image`, its facts as JSON, and its preview as a picture."""
