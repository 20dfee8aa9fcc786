"""DCFNet behind the interfaces of other libraries: OpenCV, the GOT-10k toolkit, TraX (the VOT
toolkit).
"""
