"""What several attacks use: shadow data, networks to train, segments to ask, intervals."""
