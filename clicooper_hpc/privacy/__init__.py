"""The release mechanism, its noise, its accounting, the label map and the privacy card."""
