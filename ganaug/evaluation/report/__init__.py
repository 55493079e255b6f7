"""What an evaluation found, as JSON, as a page and as sentences."""
