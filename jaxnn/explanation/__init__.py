"""The chain rule, link by link: of a network, and of a cost and gradient that a user wrote."""
