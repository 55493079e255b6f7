"""What every other room stands on: errors, files, fingerprints, hardware, pixels, random numbers, text."""
