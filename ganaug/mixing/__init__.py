"""The ways to mix generated images into a training set: a dataset, a stream, a batch transform, HF datasets."""
