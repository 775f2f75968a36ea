package docs

// A vector is that of a piece. The values of all pieces of a loaded site stand one
// after the other in memory, in the order in which a search reads them.
type vector struct {
	section int32
	piece   int32 // Of the section's pieces.
	scale   float32
	values  []int8
}

// vectorsOf returns the vectors of all pieces that have one.
func vectorsOf(x *Index) []vector {
	var vectors []vector
	for i := range x.sections {
		_, s := x.at(i)
		for j, p := range s.Pieces {
			if len(p.Values) > 0 {
				vectors = append(vectors, vector{int32(i), int32(j), p.Scale, p.Values})
			}
		}
	}
	return vectors
}

// scoreVectors returns how near each section's best piece is to a question, and which
// piece that is. A score is 1 plus the cosine, or 0 for a section that is not
// allowed or has no vector.
func (x *Index) scoreVectors(question []int8, scale float32, allowed func(section int) bool) (scores []float32, best []int32) {
	scores, best = make([]float32, len(x.sections)), make([]int32, len(x.sections))
	for _, v := range x.vectors {
		if !allowed(int(v.section)) {
			continue
		}
		cosine := scale * v.scale * float32(dot(question, v.values))
		if s := max(1+cosine, 0); s > scores[v.section] {
			scores[v.section], best[v.section] = s, v.piece
		}
	}
	return scores, best
}

// dot returns the product of two vectors of the same length.
func dot(a, b []int8) int32 {
	var s0, s1, s2, s3 int32
	for len(a) >= 8 && len(b) >= 8 {
		s0 += int32(a[0])*int32(b[0]) + int32(a[4])*int32(b[4])
		s1 += int32(a[1])*int32(b[1]) + int32(a[5])*int32(b[5])
		s2 += int32(a[2])*int32(b[2]) + int32(a[6])*int32(b[6])
		s3 += int32(a[3])*int32(b[3]) + int32(a[7])*int32(b[7])
		a, b = a[8:], b[8:]
	}
	for i := range a {
		s0 += int32(a[i]) * int32(b[i])
	}
	return s0 + s1 + s2 + s3
}
