"""Pages over a scripted gateway, for what real services show too rarely or too slowly"""
