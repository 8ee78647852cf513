"""New views of a person in one photograph: pixels lifted to depth, splatted, and completed by a network."""
