"""xavier, by its author's other name"""

from jaxnn.initializers.xavier import draw

__all__ = ["draw"]
