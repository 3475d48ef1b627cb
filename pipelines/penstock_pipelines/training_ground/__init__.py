"""What a training stands on: a LustreVolume with the data in it, and the program."""
