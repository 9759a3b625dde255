"""The demo: two learnwares and a csv of real rows that ship with learndock, and the commands that join them."""

from learndock.demo.journey import STEPS, Step, lay_out, require_weights

__all__ = ["STEPS", "Step", "lay_out", "require_weights"]
