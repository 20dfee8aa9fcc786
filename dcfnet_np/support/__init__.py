"""What any program needs: files, threads, workers, the machine."""
