def publish(c, s, r): pass
