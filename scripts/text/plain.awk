# plain: as it is.
{ print }
