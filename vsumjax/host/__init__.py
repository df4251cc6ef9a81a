"""What any program on a host needs: files, processes, progress, stopping, formats of others."""
