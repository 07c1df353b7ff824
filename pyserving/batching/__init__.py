"""When and where engine calls run."""
