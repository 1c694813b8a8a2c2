"""The owner's part of the network: from raw samples to the rows that are released."""
