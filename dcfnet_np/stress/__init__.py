"""A wind tunnel for trackers: real videos with one disturbance each, whose truth is known."""
