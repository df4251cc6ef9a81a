"""Host side of the data path: files in, NumPy arrays out. Nothing here touches a device."""
