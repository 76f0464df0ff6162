"""Files of this machine and objects of a bucket behind one set of words."""
