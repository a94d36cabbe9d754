module portreeve.io/pause

go 1.26.0
