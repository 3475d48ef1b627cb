"""From labelled images to shards of arrays that a training job reads."""
