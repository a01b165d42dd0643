"""How data-parallel training would scale: a model of a step, fitted from one and two processes and checked."""
