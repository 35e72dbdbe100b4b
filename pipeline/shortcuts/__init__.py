"""What gives outliers away without looking at their content: statistics, audit, matching, corrections."""
