"""The lake that runs whole on your laptop, deploys unchanged to AWS, and can explain every number it serves."""
