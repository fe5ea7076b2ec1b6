"""What leaves for other programs: tables into databases, and merged samples as AnnData."""
