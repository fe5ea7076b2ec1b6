"""Pictures of a FOV by which a person judges a result at a glance; made of what is in memory while it is computed.

`views` takes small images of some frames, in whatever process has the frame; `overview`, `filmstrip` and `plots` draw
them when the whole film is known; `making` knows which files there are.
"""
