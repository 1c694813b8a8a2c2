"""Using the delivered model: loaded as a module of torch, run on new samples, exported."""
