package docs

// vectorTable holds the vectors of all pieces, in one piece of memory and in the order in which
// a search reads them.
type vectorTable struct {
	values     []int8
	pieces     []pieceOf
	dimensions int
}

// pieceOf says what a vector is of.
type pieceOf struct {
	section int32
	piece   int32 // Of the section's pieces.
	scale   float32
}

// pack moves the site's vectors here. The site's pieces still have them.
func (v *vectorTable) pack(x *Index) {
	v.dimensions = x.site.Dimensions
	count := 0
	for i := range x.sections {
		_, s := x.at(i)
		for _, p := range s.Pieces {
			count += min(len(p.Values), 1)
		}
	}
	v.values = make([]int8, 0, count*v.dimensions)
	v.pieces = make([]pieceOf, 0, count)
	for i := range x.sections {
		_, s := x.at(i)
		for j := range s.Pieces {
			p := &s.Pieces[j]
			if len(p.Values) == 0 {
				continue
			}
			from := len(v.values)
			v.values = append(v.values, p.Values...)
			p.Values = v.values[from:len(v.values):len(v.values)]
			v.pieces = append(v.pieces, pieceOf{int32(i), int32(j), p.Scale})
		}
	}
}

// score returns how near each section's best piece is to a question, and which
// piece that is. A score is 1 plus the cosine, or 0 for a section that is not
// allowed or has no vector.
func (v *vectorTable) score(question []int8, scale float32, sections int, allowed func(section int) bool) (scores []float32, best []int32) {
	scores, best = make([]float32, sections), make([]int32, sections)
	for i, p := range v.pieces {
		if !allowed(int(p.section)) {
			continue
		}
		cosine := scale * p.scale * float32(dot(question, v.values[i*v.dimensions:(i+1)*v.dimensions]))
		if s := max(1+cosine, 0); s > scores[p.section] {
			scores[p.section], best[p.section] = s, p.piece
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
