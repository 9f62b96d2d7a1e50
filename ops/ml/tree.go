package ml

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// forest is a tree ensemble, whichever operator it came from.
type forest struct {
	nodes   []treeNode
	roots   []int
	targets int
	base    []float64
}

// treeNode is a decision, or a leaf when votes is not nil.
type treeNode struct {
	mode     string // BRANCH_LEQ, ..., BRANCH_MEMBER
	feature  int
	limit    float64
	members  []float64
	missing  bool // NaN goes the way of true
	yes, no  int  // nodes
	votes    []vote
	nodeID   [2]int64 // tree and node, for messages
	isBranch bool
}

type vote struct {
	target int
	weight float64
}

// branches are the tests of a decision node.
var branches = map[string]func(x, limit float64) bool{
	"BRANCH_LEQ": func(x, l float64) bool { return x <= l },
	"BRANCH_LT":  func(x, l float64) bool { return x < l },
	"BRANCH_GTE": func(x, l float64) bool { return x >= l },
	"BRANCH_GT":  func(x, l float64) bool { return x > l },
	"BRANCH_EQ":  func(x, l float64) bool { return x == l },
	"BRANCH_NEQ": func(x, l float64) bool { return x != l },
}

// leaf follows a row from a root. A file can make a circle of nodes, so the
// number of steps is bounded.
func (f *forest) leaf(root int, x []float64) (*treeNode, error) {
	at := root
	for range len(f.nodes) + 1 {
		n := &f.nodes[at]
		if !n.isBranch {
			return n, nil
		}
		if n.feature < 0 || n.feature >= len(x) {
			return nil, fmt.Errorf("tree %d, node %d tests feature %d of %d", n.nodeID[0], n.nodeID[1], n.feature, len(x))
		}
		v, yes := x[n.feature], false
		if n.mode == "BRANCH_MEMBER" {
			yes = slices.Contains(n.members, v)
		} else {
			yes = branches[n.mode](v, n.limit)
		}
		if yes || n.missing && v != v {
			at = n.yes
		} else {
			at = n.no
		}
	}
	return nil, fmt.Errorf("the tree from node %d is a circle", root)
}

// sums adds up the votes of one row by target. met tells which targets had any.
func (f *forest) sums(x []float64, how string) (s []float64, met []bool, err error) {
	s, met = make([]float64, f.targets), make([]bool, f.targets)
	for _, r := range f.roots {
		n, err := f.leaf(r, x)
		if err != nil {
			return nil, nil, err
		}
		for _, v := range n.votes {
			switch {
			case how == "MIN" && met[v.target]:
				s[v.target] = min(s[v.target], v.weight)
			case how == "MAX" && met[v.target]:
				s[v.target] = max(s[v.target], v.weight)
			default:
				s[v.target] += v.weight
			}
			met[v.target] = true
		}
	}
	if how == "AVERAGE" {
		for i := range s {
			s[i] /= float64(len(f.roots))
		}
	}
	return s, met, nil
}

// either reads a list of floats given as such or, in double, as a tensor.
func either(a graph.Attrs, name string) []float64 {
	if t := a.Tensor(name + "_as_tensor"); t != nil {
		return t.AsFloats()
	}
	return floats32(a.Floats(name))
}

// listedForest reads the form of TreeEnsembleClassifier and -Regressor: parallel
// lists of nodes, and of votes ("class" or "target") that name their leaf.
func listedForest(a graph.Attrs, votes string, targets int) (*forest, error) {
	trees, ids, modes := a.Ints("nodes_treeids"), a.Ints("nodes_nodeids"), a.Strings("nodes_modes")
	features, limits, missing := a.Ints("nodes_featureids"), either(a, "nodes_values"), a.Ints("nodes_missing_value_tracks_true")
	yes, no := a.Ints("nodes_truenodeids"), a.Ints("nodes_falsenodeids")
	n := len(ids)
	for name, k := range map[string]int{"nodes_treeids": len(trees), "nodes_modes": len(modes), "nodes_featureids": len(features), "nodes_values": len(limits),
		"nodes_truenodeids": len(yes), "nodes_falsenodeids": len(no)} {
		if k != n {
			return nil, fmt.Errorf("attribute %s has %d entries, nodes_nodeids %d", name, k, n)
		}
	}
	if len(missing) != 0 && len(missing) != n {
		return nil, fmt.Errorf("attribute nodes_missing_value_tracks_true has %d entries, nodes_nodeids %d", len(missing), n)
	}
	f := &forest{nodes: make([]treeNode, n), targets: targets, base: either(a, "base_values")}
	if len(f.base) > targets && targets > 0 {
		return nil, fmt.Errorf("%d base values for %d targets", len(f.base), targets)
	}
	at := make(map[[2]int64]int, n)
	for i := range n {
		key := [2]int64{trees[i], ids[i]}
		if _, dup := at[key]; dup {
			return nil, fmt.Errorf("node %d of tree %d is listed twice", ids[i], trees[i])
		}
		at[key] = i
		if i == 0 || trees[i] != trees[i-1] {
			f.roots = append(f.roots, i)
		}
		f.nodes[i] = treeNode{nodeID: key, mode: modes[i], feature: int(features[i]), limit: limits[i], missing: len(missing) > 0 && missing[i] != 0, isBranch: modes[i] != "LEAF"}
	}
	for i := range f.nodes {
		b := &f.nodes[i]
		if !b.isBranch {
			continue
		}
		if branches[b.mode] == nil {
			return nil, fmt.Errorf("node %d of tree %d has the mode %q", ids[i], trees[i], b.mode)
		}
		var ok, ok2 bool
		b.yes, ok = at[[2]int64{trees[i], yes[i]}]
		b.no, ok2 = at[[2]int64{trees[i], no[i]}]
		if !ok || !ok2 {
			return nil, fmt.Errorf("node %d of tree %d leads to nodes %d and %d, which are not both there", ids[i], trees[i], yes[i], no[i])
		}
	}
	vTrees, vNodes, vIDs, weights := a.Ints(votes+"_treeids"), a.Ints(votes+"_nodeids"), a.Ints(votes+"_ids"), either(a, votes+"_weights")
	if len(vNodes) != len(vTrees) || len(vIDs) != len(vTrees) || len(weights) != len(vTrees) {
		return nil, fmt.Errorf("attributes %s_* have %d, %d, %d and %d entries, want as many", votes, len(vTrees), len(vNodes), len(vIDs), len(weights))
	}
	for i := range vTrees {
		leaf, ok := at[[2]int64{vTrees[i], vNodes[i]}]
		if !ok || vIDs[i] < 0 || vIDs[i] >= int64(targets) {
			return nil, fmt.Errorf("vote %d: tree %d, node %d, %s %d of %d", i, vTrees[i], vNodes[i], votes, vIDs[i], targets)
		}
		f.nodes[leaf].votes = append(f.nodes[leaf].votes, vote{int(vIDs[i]), weights[i]})
	}
	return f, nil
}

// modeNames are the numbers of TreeEnsemble's modes.
var modeNames = []string{"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER"}

// packedForest reads the form of TreeEnsemble-5: decisions and leaves apart.
func packedForest(a graph.Attrs) (*forest, error) {
	modes, splits, weights := a.Tensor("nodes_modes"), a.Tensor("nodes_splits"), a.Tensor("leaf_weights")
	features, yes, no := a.Ints("nodes_featureids"), a.Ints("nodes_truenodeids"), a.Ints("nodes_falsenodeids")
	yesLeaf, noLeaf, missing := a.Ints("nodes_trueleafs"), a.Ints("nodes_falseleafs"), a.Ints("nodes_missing_value_tracks_true")
	ids, roots, targets := a.Ints("leaf_targetids"), a.Ints("tree_roots"), a.Int("n_targets", 1)
	if modes == nil || splits == nil || weights == nil || modes.DType != tensor.Uint8 {
		return nil, fmt.Errorf("nodes_modes (uint8), nodes_splits or leaf_weights is missing")
	}
	n := modes.Len()
	for name, k := range map[string]int{"nodes_splits": splits.Len(), "nodes_featureids": len(features), "nodes_truenodeids": len(yes), "nodes_falsenodeids": len(no),
		"nodes_trueleafs": len(yesLeaf), "nodes_falseleafs": len(noLeaf)} {
		if k != n {
			return nil, fmt.Errorf("attribute %s has %d entries, nodes_modes %d", name, k, n)
		}
	}
	if len(ids) != weights.Len() || targets < 1 || targets > 1<<24 || len(missing) != 0 && len(missing) != n {
		return nil, fmt.Errorf("%d leaf targets, %d leaf weights, %d targets, %d missing-value flags for %d nodes", len(ids), weights.Len(), targets, len(missing), n)
	}
	f := &forest{targets: int(targets)}
	var members []float64
	if t := a.Tensor("membership_values"); t != nil {
		members = t.AsFloats()
	}
	child := func(i, k int64, leaf bool) (int, error) {
		limit, base := int64(n), 0
		if leaf {
			limit, base = int64(len(ids)), n
		}
		if k < 0 || k >= limit {
			return 0, fmt.Errorf("node %d leads to %d of %d", i, k, limit)
		}
		return base + int(k), nil
	}
	for i := range n {
		m := int(modes.IntAt(i))
		if m >= len(modeNames) {
			return nil, fmt.Errorf("node %d has the mode %d, want 0 to %d", i, m, len(modeNames)-1)
		}
		b := treeNode{isBranch: true, mode: modeNames[m], feature: int(features[i]), limit: splits.At(i), missing: len(missing) > 0 && missing[i] != 0, nodeID: [2]int64{0, int64(i)}}
		if b.mode == "BRANCH_MEMBER" { // the next set, which ends at a NaN
			end := slices.IndexFunc(members, math.IsNaN)
			if end < 0 {
				return nil, fmt.Errorf("membership_values has fewer sets than there are nodes of mode BRANCH_MEMBER")
			}
			b.members, members = members[:end], members[end+1:]
		}
		var err error
		if b.yes, err = child(int64(i), yes[i], yesLeaf[i] != 0); err != nil {
			return nil, err
		}
		if b.no, err = child(int64(i), no[i], noLeaf[i] != 0); err != nil {
			return nil, err
		}
		f.nodes = append(f.nodes, b)
	}
	for i, t := range ids {
		if t < 0 || t >= targets {
			return nil, fmt.Errorf("leaf %d is for target %d of %d", i, t, targets)
		}
		f.nodes = append(f.nodes, treeNode{votes: []vote{{int(t), weights.At(i)}}})
	}
	for _, r := range roots {
		if r < 0 || r >= int64(n) {
			return nil, fmt.Errorf("tree_roots names node %d of %d", r, n)
		}
		f.roots = append(f.roots, int(r))
	}
	return f, nil
}
