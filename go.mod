module github.com/ssdc-go/ssdc

go 1.26
