"""Files made from a visit's images, each proved against the images it was made from."""
