// Command probe measures what clients feel of one fault, on whichever cluster
// stands behind the given addresses.
//
//	probe outage ...            writers of numbered rows around one fault; the result as JSON
//	probe table RESULTS...      the results of several subjects as one Markdown page
//	probe print README RESULTS  puts that page between the marks of a file
//
// It knows nothing of what it measures but addresses and commands: the same
// writers, clocks and judgement for every subject (../README.md).
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string) error{"outage": outage, "table": table, "print": printInto}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: probe outage|table|print ...")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}
