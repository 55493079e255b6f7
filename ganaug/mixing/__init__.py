"""The ways to mix generated images into a training set, each handed on by ``ganaug``.

- ``dataset``: :class:`ganaug.ConditionalGANAugment`, for map-style datasets, with ``batch_sampler``;
- ``stream``: :class:`ganaug.ConditionalGANStream`, for datasets that can only be iterated;
- ``batch``: :class:`ganaug.GANMix`, for batches on the training device;
- ``huggingface``: :func:`ganaug.augment_dataset` and :func:`ganaug.generate_dataset`, for Hugging Face ``datasets``.

``commands`` has the two around it, :func:`ganaug.fit` to train a generator and :func:`ganaug.evaluate` to see if it
helps.
"""
