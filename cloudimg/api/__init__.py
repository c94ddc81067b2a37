"""What users call: wiring only, each function reads as the steps that it takes."""
