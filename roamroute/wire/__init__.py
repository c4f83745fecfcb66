"""Pure codecs where no library serves: bytes in, values out. Nothing here opens a socket or knows a clock."""
