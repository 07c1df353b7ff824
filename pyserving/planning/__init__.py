"""How many servers a load needs: a benchmark of one, a model of it, and a simulation of several."""
