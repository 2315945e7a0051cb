"""Models made of other models: how their parts go into a saved file and come back."""

from typing import Self

import keras


class WithParts:
    """Mixin before a Keras model or layer: the attributes named in PARTS are kept in its configuration.

    A subclass puts `**self.parts_config()` into what its `get_config` gives, and takes the parts by name when
    constructed. A part may be None.
    """

    PARTS = ()

    def parts_config(self) -> dict:
        """Name -> serialised part."""
        return {name: keras.saving.serialize_keras_object(getattr(self, name)) for name in self.PARTS}

    @classmethod
    def from_config(cls, config: dict) -> Self:
        """A model around its own parts, read from the configuration."""
        parts = {name: keras.saving.deserialize_keras_object(config.pop(name)) for name in cls.PARTS}
        return cls(**parts, **config)
