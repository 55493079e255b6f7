"""What every other room stands on; nothing here knows of images with labels, generators or training.

Errors for the caller, files that are written whole or not at all, fingerprints of what results depend on, hardware,
pixels in their three forms, private random streams, and strings from strangers.
"""
