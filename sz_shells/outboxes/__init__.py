"""Where a handler's process keeps results until its server has acknowledged them."""
