"""A generator as a folder, here and on the Hugging Face Hub: saving, checking, loading, publishing."""
