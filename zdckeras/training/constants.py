"""Models around layers that their training leaves as they are, though these can be trained elsewhere."""

import keras


class WithConstants(keras.Model):
    """Base of models some layers of which are constants of their training, such as a teacher.

    The layers themselves stay trainable: whoever made them may train them before and after.

    Example:
        >>> class Twice(WithConstants):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.first, self.second = keras.layers.Dense(2), keras.layers.Dense(2)
        ...         self.first.build((None, 2)), self.second.build((None, 2))
        ...         self.built = True
        ...
        ...     @property
        ...     def constants(self):
        ...         return (self.first,)
        >>> model = Twice()
        >>> len(model.trainable_variables), len(model.non_trainable_variables), len(model.first.trainable_variables)
        (2, 2, 2)
    """

    @property
    def constants(self) -> tuple[keras.Layer, ...]:
        """Layers whose weights stay as they are."""
        return ()

    def _moved(self, variables):
        still = {id(variable) for layer in self.constants for variable in layer.variables}
        return [variable for variable in variables if id(variable) not in still]

    def _others(self, variables):
        moved = {id(variable) for variable in self.trainable_variables}
        return [variable for variable in variables if id(variable) not in moved]

    @property
    def trainable_variables(self):
        return self._moved(super().trainable_variables)

    @property
    def non_trainable_variables(self):
        return self._others(self.variables)

    @property
    def trainable_weights(self):
        return self._moved(super().trainable_weights)

    @property
    def non_trainable_weights(self):
        return self._others(self.weights)
